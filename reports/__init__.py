"""Tables of scores, CUR and IG as Markdown, CSV, JSON and LaTeX."""

from redundancy_eval import place

place.check(__file__)

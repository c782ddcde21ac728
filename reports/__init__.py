"""Tables of scores, CUR and IG as Markdown, CSV, JSON and LaTeX."""

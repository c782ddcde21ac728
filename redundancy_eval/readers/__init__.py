"""Finished runs, as the frameworks left them, read and checked: what was asked, answered and scored."""

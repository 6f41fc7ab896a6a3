"""What every result is shown by: sentences and tables, as text, HTML and LaTeX, and one look for all figures."""

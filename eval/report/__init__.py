"""Reports on runs: Markdown, one HTML file, JSON and plots."""

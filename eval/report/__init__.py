"""Reports: findings from runs, as Markdown, one HTML file, JSON and plots."""

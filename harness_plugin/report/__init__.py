"""Results for people to look at. Numbers in, files out; knows no model, no pair and no command."""

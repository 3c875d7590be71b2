"""Results for people to look at. Numbers in, files out; knows no model, no pair and no command.

Of a leaderboard: `judge_folder` writes all files, `board_page` is the HTML page, `chart_data` what its charts show,
`board_markdown` the same as text, `board_plots` the pictures, `board_words` the sentences. Of a gate: `gate_text` is
what the terminal, a comment and JSON say, `gate_files`, `github` and `junit` are where it goes. `judge_plots` draws a
judge's calibration and training. Of several judges: `comparison_words` is what is said, `comparison_several` what of
panels, cascades and abstentions, `comparison_section` the shape of it, `comparison_plots` the picture,
`comparison_files` writes both. For people's labels `label_page` is the page to vote on, and `label_text` says how they
agree. What they share: `html_page` assembles a page, `drawing` has the colours and marks of pictures, `numbers` writes
a number with its interval, `markdown_syntax` makes text safe in Markdown.
"""

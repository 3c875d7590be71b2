"""Results for people to look at. Numbers in, files out; knows no model, no pair and no command.

Of a leaderboard: `judge_folder` writes all files, `page` the HTML page, which `html_page` assembles, `chart_data` what
its charts show, `board_markdown` the same as text, `board_plots` the pictures, `words` the sentences. Of a gate:
`gate_text` is what the terminal, a comment and JSON say, `gate_files`, `github` and `junit` are where it goes.
`judge_plots` draws a judge's calibration and training. Of several judges: `comparison_words` is what is said,
`comparison_several` what of panels, cascades and abstentions, `comparison_section` the shape of it, `comparison_plots`
the picture, `comparison_files` writes both. For people's labels `label_page` is the page to vote on, and `label_text`
says how they agree. `markdown_syntax` makes text safe in Markdown.
"""

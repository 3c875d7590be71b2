"""The task files of arena_pairs: YAML and data. It is a package only so that an editable install finds the folder."""

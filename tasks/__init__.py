"""The task files of arena_pairs: YAML and data. A package only so that an editable install finds the folder."""

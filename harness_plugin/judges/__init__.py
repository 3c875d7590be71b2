"""The judges: what takes pairs and gives judgements.

`judge` says what a judge is, `opening` opens the one that a user names, `local` is a reward model in this process, and
`presentations` renders pairs and scores them with it. The folder `served` has the judges behind a server; `panel` and
`cascade` are judges that are made of others. torch is imported when a judge on this machine is opened.
"""

from harness_plugin.judges.judge import Judge
from harness_plugin.judges.opening import open_judge

__all__ = ["Judge", "open_judge"]

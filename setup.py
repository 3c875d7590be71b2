"""What setup.cfg cannot say: the description with whole links, the list of packages, and the two start-up files at the
top of site-packages.

`tasks/` and `train/` are installed inside `harness_plugin`, so that no folder of a generic name lands in site-packages.
"""

import os
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

STARTUP_FILES = ["arena_rm_lm_eval.pth", "arena_rm_lm_eval.start"]
PACKAGES = [
    *find_packages(include=["harness_plugin", "harness_plugin.*"]),
    *(f"harness_plugin.{name}" for name in find_packages(include=["tasks", "tasks.*", "train", "train.*"])),
]
REPOSITORY = "https://github.com/OldKingMeister/lm-eval-arena-rm"
RAW = "https://raw.githubusercontent.com/OldKingMeister/lm-eval-arena-rm/main"


def description() -> str:
    """README.md with whole links: the package index shows the text where no file of the repository lies beside it."""
    text = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    other = r"(?!https?:|mailto:|#)"  # the link is none of these
    text = re.sub(rf"(!\[[^\]]*\]\(){other}", rf"\1{RAW}/", text)
    return re.sub(rf"((?<!!)\[[^\]]*\]\(|(?<=\))\]\(){other}", rf"\1{REPOSITORY}/blob/main/", text)


class BuildPy(build_py):
    """The usual build, from a clean folder, plus the start-up files (see harness_plugin/_bridge.py)."""

    def run(self):
        if not self.editable_mode:
            # build/ outlives a build: a task file that was deleted since would be installed again
            shutil.rmtree(os.path.join(self.build_lib, "harness_plugin"), ignore_errors=True)
        super().run()
        self.mkpath(self._top())
        for name in STARTUP_FILES:
            self.copy_file(os.path.join("harness_plugin", name), os.path.join(self._top(), name), preserve_mode=False)

    def get_outputs(self, include_bytecode=True):
        ours = [] if self.editable_mode else [os.path.join(self.build_lib, name) for name in STARTUP_FILES]
        return [*super().get_outputs(include_bytecode), *ours]

    def get_source_files(self):
        return [*super().get_source_files(), *(os.path.join("harness_plugin", name) for name in STARTUP_FILES)]

    def _top(self):
        # in an editable build install_lib is the root of the wheel that is being put together
        return self.get_finalized_command("install").install_lib if self.editable_mode else self.build_lib


setup(
    long_description=description(),
    long_description_content_type="text/markdown",
    packages=PACKAGES,
    package_dir={"harness_plugin.tasks": "tasks", "harness_plugin.train": "train"},
    cmdclass={"build_py": BuildPy},
)

"""Makes `lm_eval` find the model `arena_rm` and the tasks `arena_pairs*` where it cannot discover them by itself.

lm-eval 0.4.13 has no plug-in discovery, so `arena_rm_lm_eval.pth` (`.start` from Python 3.15 on) calls `install()` at
every interpreter start. That puts one finder in front of `sys.meta_path`. When `lm_eval.models` or `lm_eval.tasks` is
first imported, the usual finders load it, then a hook here runs: the model's name goes into lm-eval's model registry,
our tasks folder into the `include_path` of each new `TaskManager`; where lm-eval's command line asks for tasks of ours
only, the 14,000 files of its own tasks are left unread. Both are lm-eval's public interface. A hook on
`lm_eval` itself limits how long threads spin where the command line names this model (`harness_plugin.waiting`). When
all hooks have run the finder takes itself away. An lm-eval that discovers entry points has the name already and keeps
its own.

Because it runs in every program of the environment this module imports `sys` and `os` only, which the interpreter has
loaded anyway. It must not know what the model or the tasks are, only where, and it must never break lm-eval.
"""

import os
import sys

MODEL = "arena_rm"
# Exactly the class's own module and name: lm-eval refuses any other spelling.
TARGET = "harness_plugin.harness.lm:ArenaRM"
TASK_FILE = os.path.join("arena_pairs", "arena_pairs.yaml")
OFF_SWITCH = "ARENA_RM_NO_HOOK"
PROGRAMS = ("lm_eval", "lm-eval", "harness_plugin")  # that take lm-eval's options


def switched_off() -> bool:
    """Whether the user turned the start-up hook off: ARENA_RM_NO_HOOK is set to anything but nothing or 0."""
    return os.environ.get(OFF_SWITCH, "") not in ("", "0")


def install(asked: bool = False) -> None:
    """Plug into lm-eval now where it is loaded, else when it will be. May be called any number of times.

    `asked` says that a user's own command wants it: then the off switch, which is for the start-up hook, is not obeyed.
    """
    if switched_off() and not asked:
        return
    for name in [name for name in _waiting if name in sys.modules]:
        _plug(name, sys.modules[name])
    if _waiting and _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)


def active() -> bool:
    """Whether the hook waits for lm-eval in this process or has run there (a failure then gave a warning)."""
    return not _waiting or _Finder in sys.meta_path


def tasks_dir() -> str | None:
    """The folder with our task files: beside this file in an installed wheel, beside its parent in a checkout."""
    here = os.path.dirname(os.path.abspath(__file__))
    for parent in (here, os.path.dirname(here)):
        folder = os.path.join(parent, "tasks")
        if os.path.isfile(os.path.join(folder, TASK_FILE)):
            return folder
    return None


def _add_model(_models_module) -> None:
    # Only once lm_eval.models is loaded: lm-eval loads its own models only while its registry is empty, so a name put
    # in before would make every built-in model vanish.
    from lm_eval.api.registry import model_registry

    if MODEL not in model_registry:
        model_registry.register(MODEL, target=TARGET)


def _add_tasks(tasks_module) -> None:
    import functools
    import inspect

    theirs = tasks_module.TaskManager.__init__
    if getattr(theirs, "_has_arena_rm", False):
        return
    signature = inspect.signature(theirs)
    if "include_path" not in signature.parameters:
        raise TypeError("TaskManager takes no include_path")

    @functools.wraps(theirs)
    def init(self, *args, **kwargs):
        try:
            bound = signature.bind(self, *args, **kwargs)
        except TypeError:  # arguments that lm-eval does not take: it says so in its own words
            return theirs(self, *args, **kwargs)
        if bound.arguments.get("include_defaults", True):
            given = bound.arguments.get("include_path")
            bound.arguments["include_path"] = _with_ours(given)
            asked = set() if given else _tasks_asked_for(sys.argv)
            if asked and "include_defaults" in signature.parameters:
                bound.arguments["include_defaults"] = False
                theirs(*bound.args, **bound.kwargs)
                if asked <= {*self.all_tasks}:
                    return None
                bound.arguments["include_defaults"] = True
        return theirs(*bound.args, **bound.kwargs)

    vars(init)["_has_arena_rm"] = True
    tasks_module.TaskManager.__init__ = init


def _with_ours(given):
    """The user's `include_path` with our folder in front, since lm-eval lets the later one override the earlier."""
    paths = list(given) if isinstance(given, (list, tuple)) else [given] if given else []
    ours = tasks_dir()
    if ours is None or any(os.path.realpath(path) == os.path.realpath(ours) for path in paths):
        return given
    return [ours, *paths]


def _tasks_asked_for(arguments) -> set[str]:
    """The names after --tasks, if this program is lm-eval's own command and it is plain which names they are; else
    none. Indexing lm-eval's tasks takes seven seconds."""
    folder, file = os.path.split(arguments[0] if arguments else "")  # a program that embeds Python may give none
    program = os.path.basename(folder) if file == "__main__.py" else os.path.splitext(file)[0]
    places = [i for i, argument in enumerate(arguments) if argument.startswith("--ta") or argument[:2] == "-t"]
    if program not in PROGRAMS or len(places) != 1:
        return set()
    option, equals, value = arguments[places[0]].partition("=")
    if option not in ("--tasks", "-t"):  # an abbreviation, or a name without a space before it
        return set()
    values = [value] if equals else []
    for argument in () if equals else arguments[places[0] + 1 :]:
        if argument.startswith("-"):
            break
        values.append(argument)
    return {name for value in values for name in value.split(",")}


def _before_torch(_package) -> None:
    """`lm_eval --model arena_rm` imports torch long before it makes the model. Other programs are left as they are."""
    if any(MODEL in argument.split("=") for argument in sys.argv[1:]):
        from harness_plugin.waiting import wait_briefly

        wait_briefly()


_waiting = {"lm_eval": _before_torch, "lm_eval.models": _add_model, "lm_eval.tasks": _add_tasks}
_searching: set[str] = set()


def _plug(name, module) -> None:
    hook = _waiting.pop(name, None)
    if hook is None:
        return
    try:
        hook(module)
    except Exception as error:
        import warnings

        warnings.warn(f"arena_rm could not plug itself into {name}: {error!r}", RuntimeWarning, stacklevel=2)
    if not _waiting and _Finder in sys.meta_path:
        sys.meta_path.remove(_Finder)


class _Finder:
    """Finds nothing itself: it has the other finders find a module, and adds a step after its loading."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if fullname not in _waiting or fullname in _searching:
            return None
        _searching.add(fullname)  # another finder that asks the others, as this one does, would come back here
        try:
            spec = cls._ask_the_others(fullname, path, target)
        finally:
            _searching.discard(fullname)
        loader = getattr(spec, "loader", None)
        # A loader that is a class serves every module of its kind (the built-in and the frozen ones): not to be changed
        if hasattr(loader, "exec_module") and not isinstance(loader, type):
            cls._add_step(fullname, loader)
        return spec

    @classmethod
    def _ask_the_others(cls, fullname, path, target):
        for finder in list(sys.meta_path):
            if finder is not cls and hasattr(finder, "find_spec"):
                spec = finder.find_spec(fullname, path, target)
                if spec is not None:
                    return spec
        return None

    @staticmethod
    def _add_step(fullname, loader):
        load = loader.exec_module

        def exec_module(module):
            load(module)
            if module.__name__ == fullname:  # one loader may serve a whole zip file
                _plug(fullname, module)

        try:
            loader.exec_module = exec_module
        except AttributeError:  # a loader with fixed attributes: lm-eval goes on, without us
            return

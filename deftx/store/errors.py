"""The errors that are about what the user gave or what the machine has. The command line shows each
as one message; every other exception keeps its traceback."""


class DeftxError(Exception):
    """Any error that the user can act on; the message says what was found and expected."""


class InputError(DeftxError, ValueError):
    """A value, a tensor or an option does not fit what it is used for."""


class ConfigError(DeftxError):
    """The config is not valid; the message lists every key, its value and what was expected."""


class DataError(DeftxError):
    """A user's file cannot be downloaded or read, or does not contain what the config says."""


class ArtefactError(DeftxError):
    """A file is missing, corrupt, of another format, or does not fit what it is used with."""


class CheckpointError(DeftxError):
    """Another process is training from the same checkpoint."""


class NotFiniteError(DeftxError, FloatingPointError):
    """A loss, a validation score or a weight is infinite or not a number."""


class DeviceError(DeftxError, RuntimeError):
    """A GPU cannot be used, or has too little memory."""


class ProcessLostError(DeftxError):
    """Another of the processes that share a training has ended."""


class StaleCodeError(DeftxError):
    """The code of a stage is not the code that the workflow recorded."""


class Stopped(SystemExit):
    """A signal arrived and the state of training is saved; the exit status is 128 + the signal."""

"""How training ends when it does not end well. Free of torch, for whoever reports it."""


class CheckpointError(Exception):
    """Another process is training from the same checkpoint."""


class OutOfDeviceMemoryError(Exception):
    """The GPU has too little memory for a batch."""


class ProcessLostError(Exception):
    """Another of the processes that share a training has ended."""


class Stopped(SystemExit):
    """A signal came and the state is saved; the exit status is 128 + the signal."""

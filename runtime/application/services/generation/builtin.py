from runtime.application.services.generation.buffered import Buffered
from runtime.application.services.generation.chunked import Chunked
from runtime.application.services.generation.interleaved import Interleaved
from runtime.application.services.generation.modes import GeneratorModes
from runtime.application.services.generation.priority import Priority
from runtime.application.services.generation.standard import Standard


def generator_modes() -> GeneratorModes:
    """Those of the runtime, and those that installed distributions bring."""
    modes = GeneratorModes()
    modes.register("standard", Standard)
    modes.register("buffered", Buffered)
    modes.register("chunked", Chunked)
    modes.register("interleaved", Interleaved)
    modes.register("priority", Priority)
    modes.register_entry_points()
    return modes

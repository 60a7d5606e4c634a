"""What a visitor does, on the tiny model, as json on standard output: with SPACES_ZERO_GPU=1 and the stand-in
for `spaces` on the path, or without. torch has one thread: forks of several are not safe."""

import json
import sys
import time
from pathlib import Path

from conftest import pairs
from serving import tiny_service

from dro.errors import DataError
from explorer import gpu, lent
from explorer.service import Service


def followed(service: Service, name: str) -> dict:
    deadline = time.monotonic() + 120
    while not service.run(name).over:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    run = service.run(name)
    looks = run.watched.looks if run.watched else []
    return {
        "phase": run.phase, "message": run.message, "losses": [step.loss for step in run.steps],
        "looks": [[step, places.tolist()] for step, places in (looks[0], looks[-1])],
        "rates": [rate.as_dict() | {"prompt": ""} for rate in run.rates],
        "region": run.region and run.region.as_dict(),
    }  # fmt: skip


def refusal(service: Service) -> str:
    """An error of ours that is raised beside the model."""
    bench = service._runs_needed().bench
    if not gpu.LENT:
        return str(DataError("This cannot be.", "Ask otherwise."))
    gpu._tasks["refused"] = (refused, lambda: 0.0)
    gpu.serve(bench)
    try:
        gpu.ask(refused)
    except DataError as error:
        return str(error)
    return ""


def refused(bench):
    raise DataError("This cannot be.", "Ask otherwise.")


def main() -> None:
    service = tiny_service(Path(sys.argv[1]), pairs(12))
    found = {"points": service.locate("How do I fold a map?", ["none", "short"])["points"]}
    found["answers"] = [
        list(told) for told in list(service.stream_answers("How do I fold a map?", ["none", "short"], 6))[-1]
    ]
    config = service.configuration("quick", steps=3, batch=4)
    run, _ = service.start_run(config, "quick")
    found["run"] = followed(service, run.name)
    if gpu.LENT:
        found["piece"], found["step_seconds"] = lent.piece(config), lent.step_seconds(config)
        wanted = gpu.duration("steps", config, run.folder, 3, 3)
        longer = gpu.duration("steps", config, run.folder, 30, 30)
        found["expected"] = {"steps": wanted, "longer": longer}
    found["refusal"] = refusal(service)
    print(json.dumps(found))


if __name__ == "__main__":
    main()

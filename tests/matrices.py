"""Models, surveys and records that the tests of the matrix share."""

from __future__ import annotations

from pathlib import Path

from wirecheck import matrix as module
from wirecheck.gate_shelf import Shelf
from wirecheck.matrix import EveryPair, Local, Survey
from wirecheck.matrix_records import Matrix, MatrixCause, MatrixCell, MatrixModel
from wirecheck.runner import Request
from wirecheck.schema import Level, Policy, TrainSpec, WireSpec
from wirecheck.snapshot import parse_ref, take
from wirecheck.store import Store

REQUEST = Request(
    wire=WireSpec(latent_length=4, latent_width=32, max_bytes=64),
    train=TrainSpec(),
    policy=Policy(required=Level.INSPECTED, depth=Level.INSPECTED),
    seed=0,
    command="wirecheck matrix",
)


class Heard:
    """What a survey tells while it goes."""

    def __init__(self) -> None:
        self.models: list[tuple[str, bool]] = []
        self.cells: list[MatrixCell] = []

    def model(self, model: MatrixModel, *, kept: bool) -> None:
        self.models.append((model.name, kept))

    def cell(self, cell: MatrixCell) -> None:
        self.cells.append(cell)


NAMES = ("one", "two", "three", "four")


def survey(place: Path, names=NAMES, request: Request = REQUEST, **more) -> Survey:
    read = {name: (lambda name=name: take(parse_ref(str(place / name)))) for name in names}
    given = {
        "pairs": EveryPair(names),
        "shelf": Shelf(Store(place / "store.sqlite")),
        "watch": Heard(),
        "executor": Local(2),
    }
    return Survey(request, read, **(given | more))


def ran(place: Path, *args, **more) -> tuple[Survey, Matrix]:
    made = survey(place, *args, **more)
    made.run()
    return made, made.head(tuple(made.cells()))


HOSTILE = "=cmd|'<script>alert(1)</script>\x1b[2J"


def hostile() -> Matrix:
    names = (HOSTILE, "b|c", "plain")
    cause = MatrixCause(code="CFG11", subject="a", claim=HOSTILE)
    cells = (
        MatrixCell(a=names[0], b=names[1], outcome="incompatible", causes=(cause,), why=(HOSTILE,), memory=10**9),
        MatrixCell(a=names[0], b=names[2], outcome="compatible", strength=Level.SIMULATED, memory=3 * 10**9),
        MatrixCell(a=names[1], b=names[2], outcome="unproven", why=("not run",)),
    )
    return Matrix(
        status="finished",
        command="wirecheck matrix",
        seed=0,
        wire=REQUEST.wire,
        train=REQUEST.train,
        policy=REQUEST.policy,
        environment=module.environment(),
        models=tuple(MatrixModel(name=name, ref=name) for name in names),
        cells=cells,
        seconds=1.0,
    )

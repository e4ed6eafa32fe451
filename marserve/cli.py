"""The command line: flags in, one line per mistake out. What the commands do is in the modules they call."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from marserve.edge.cli import edge_app, keys_app
from marserve.errors import MarserveError
from marserve.models.cli import models_app
from marserve.rollout.cli import rollout
from marserve.settings import DEFAULT_PORT
from marserve.similar_cli import index, similar
from marserve.terminal import console, plain, short
from marserve.trust.cli import add_commands

app = typer.Typer(
    help="Serve trained models on TorchServe, without PyTorch.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
pool_app = typer.Typer(help="Pools of images for random challenges.", no_args_is_help=True)
app.add_typer(pool_app, name="pool")
app.add_typer(edge_app, name="edge")
app.add_typer(keys_app, name="keys")
app.add_typer(models_app, name="models")
add_commands(app)
app.command()(rollout)
app.command()(index)
app.command()(similar)

Port = Annotated[int, typer.Option(min=1, max=65535, help="The REST port.")]


@app.command()
def serve(
    model_store: Annotated[Path, typer.Option(help="Folder with .mar archives.")] = Path("model_store"),
    config: Annotated[Path, typer.Option(help="TorchServe's server-wide settings.")] = Path("config.properties"),
    port: Annotated[
        int | None,
        typer.Option(min=1100, max=65000, help="REST port; the other four ports move with it.  [default: 8080]"),
    ] = None,
    models: Annotated[list[str] | None, typer.Option(help="Serve only this one; repeat for more.")] = None,
    pool: Annotated[
        Path | None, typer.Option(help="Draw random images from this pool instead of the shipped one.")
    ] = None,
    overrides: Annotated[
        Path | None, typer.Option(help="Folder with NAME.overrides.yaml files.  [default: the model store]")
    ] = None,
    no_overrides: Annotated[
        bool, typer.Option("--no-overrides", help="All settings as the archives have them.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="The model store as it is, not as the server before this one has left it.")
    ] = False,
    grace: Annotated[
        str, typer.Option(help="How long an end waits for requests in flight; a second signal cuts it short.")
    ] = "20s",
    strict: Annotated[
        bool, typer.Option("--strict", help="Start nothing if any model fails, instead of serving the others.")
    ] = False,
    edge: Annotated[Path | None, typer.Option(help="Put an edge with these settings before it (edge.yaml).")] = None,
    edge_port: Annotated[int | None, typer.Option(min=1100, max=65000, help="The edge's REST port.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return when ready; `marserve stop` ends it.")] = False,
) -> None:
    """Start TorchServe with the archives of a model store and wait until every worker has answered.

    A model that fails costs only itself: it is told on standard error, and the others are served.
    """
    from handlers.errors import SpecError
    from handlers.pool import Pool
    from marserve import serve as module
    from marserve.durations import seconds
    from marserve.overrides import check_folder

    if overrides:
        check_folder(overrides)
    if pool is not None:
        try:
            Pool(pool)
        except SpecError as error:
            raise MarserveError(str(error)) from None
    names = [name for entry in models or [] for name in entry.split(",") if name]
    if edge_port is not None and edge is None:
        raise MarserveError("--edge-port needs --edge")
    if overrides and no_overrides:
        raise MarserveError("--overrides and --no-overrides exclude each other")
    folder = None if no_overrides else overrides or model_store
    waiting = seconds(grace, "--grace", 0, 3600)
    options = module.Options(model_store, config, port, names, pool, folder, waiting, fresh, edge, edge_port, strict)
    (module.detach if detach else module.serve)(options)


@app.command()
def stop(port: Port = DEFAULT_PORT) -> None:
    """Stop the server that `marserve serve` started on this port."""
    from marserve import serve as module

    module.stop(port)


@app.command()
def top(
    port: Annotated[int, typer.Option(min=1100, max=65000, help="The server's REST port.")] = DEFAULT_PORT,
    metrics: Annotated[str | None, typer.Option(help="The page of metrics, if it is not two ports above that.")] = None,
    interval: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="One table, after one interval.")] = False,
) -> None:
    """Show where a running server's time goes, until Ctrl-C.

    p50 and p99 are of the time in the worker, and in the queue where a proxy sets X-Request-Start. The queue is the
    mean of one request; decode, run and encode are its share of its batch. The limit is the largest of these three
    once the workers spend 70 % of their time in them; below that they wait for requests.
    """
    from marserve import top as module

    module.top(metrics or module.metrics_url(port), interval, once)


@app.command()
def predict(
    name: Annotated[str, typer.Argument(help="The model.")],
    files: Annotated[
        list[Path], typer.Argument(help="What to send: images, or JSON requests.", exists=True, dir_okay=False)
    ],
    use_grpc: Annotated[bool, typer.Option("--grpc", help="Over gRPC instead of REST.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line per file instead of a table.")] = False,
    output: Annotated[
        Path, typer.Option(help="Folder for the images of models that answer with one.", file_okay=False)
    ] = Path(),
    url: Annotated[str, typer.Option(help="The server's REST address.")] = "http://127.0.0.1:8080",
    grpc_address: Annotated[str, typer.Option(help="The server's gRPC address.")] = "127.0.0.1:7070",
) -> None:
    """Send files to a running server and print its answers; exit code 1 if any failed.

    An answer that is an image is written to FILE_MODEL.jpeg; with --json, and over gRPC, all answers are JSON.

    A key for an edge is taken from the environment, MARSERVE_KEY: what is on a command line others can see.
    """
    from handlers.accept import JSON
    from marserve.client import ANY, Answer, Client, GrpcClient, RestClient

    key = os.environ.get("MARSERVE_KEY", "")
    client: Client = GrpcClient(grpc_address, key) if use_grpc else RestClient(url, key)
    table = Table("file", "answer", "confidence")
    failed = False
    try:
        with client:
            for file in files:
                answer = client.predict(name, _read(file), JSON if as_json else ANY)
                saved = output / f"{file.stem}_{name}.{answer.media_type.partition('/')[2]}"
                if answer.content and (reason := _not_written(saved, answer.content)):
                    answer = Answer({}, reason)
                failed = failed or bool(answer.error)
                if as_json:
                    failure = {"failed": answer.error} if answer.error else {}
                    print(json.dumps({"file": str(file), **answer.body, **failure}))
                elif answer.error:
                    table.add_row(plain(file), plain(f"error: {answer.error}"), "")
                elif answer.content:
                    table.add_row(plain(file), plain(f"written to {saved}"), "")
                elif label := answer.body.get("label", answer.body.get("predicted_class")):
                    table.add_row(
                        plain(file),
                        plain(label),
                        plain(answer.body.get("confidence", answer.body.get("score", ""))),
                    )
                else:
                    table.add_row(plain(file), short(json.dumps(answer.body)), "")
    finally:  # what was answered before a server went away is worth seeing
        if not as_json and table.row_count:
            console().print(table)
    raise typer.Exit(1 if failed else 0)


@app.command()
def inspect(
    archive: Annotated[Path, typer.Argument(help="A .mar file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Everything, for programs.")] = False,
) -> None:
    """Print what is inside an archive, and whether its files are the ones that were packed."""
    from handlers.archive import SELFTEST
    from marserve.archive import read_archive
    from marserve.trust.signing import signature_path

    found = read_archive(archive)
    if as_json:
        fields = ("name", "version", "config", "metadata", "files", "changed")
        print(json.dumps({name: getattr(found, name) for name in fields}, indent=2, default=str))
    else:
        out = console()
        out.print(f"{found.name}  version {found.version}")
        own = ((SELFTEST in found.files, "self-test"), (signature_path(archive).exists(), "signature beside it"))
        out.print(", ".join(f"{'a' if there else 'no'} {what}" for there, what in own))
        settings = {key: value for key, value in found.config.items() if key != "handler"}
        for title, section in (("TorchServe", settings), ("handler", found.handler), ("metadata", found.metadata)):
            out.print(f"\n{title}")
            for key, value in section.items():
                text = value if isinstance(value, str | int) else json.dumps(value, default=str)
                out.print(f"  {plain(key)}: {plain(text)}")
        out.print("\nfiles")
        for name, size in found.files.items():
            note = "  CHANGED since it was packed" if name in found.changed else ""
            out.print(f"  {size:>12,}  {plain(name)}{note}")
    if found.changed:
        raise MarserveError(f"{', '.join(found.changed)}: not the files that were packed")


@app.command()
def evaluate(
    name: Annotated[str, typer.Argument(help="The model, or the path of a .mar file.")],
    data_dir: Annotated[
        Path,
        typer.Option(
            "--data_dir",
            "--data-dir",
            help="Images: <group>/<class>/*.jpg|png|webp, or <group>/* alone. Movements: human/ and bot_<family>/. "
            "Faces: images, and dlib's *.xml with their boxes.",
        ),
    ],
    model_store: Annotated[Path, typer.Option(help="Folder with .mar archives.")] = Path("model_store"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object with every figure.")] = False,
) -> None:
    """Score a model on labelled images, movements or faces, without a server: with the answers that one would give."""
    from marserve import evaluate as images
    from marserve import evaluate_faces as faces
    from marserve import evaluate_movements as movements
    from marserve import evaluate_retrieval as retrieval
    from marserve import report, report_faces, report_movements, report_retrieval
    from marserve.archive import find_archives, read_archive
    from marserve.photos import CLASSIFIERS, EMBEDDING

    runs: dict[str, tuple[Callable[[Any, Path], tuple[Any, list[images.Problem]]], Callable[[Any], None]]] = {
        **dict.fromkeys(CLASSIFIERS, (images.evaluate, report.print_report)),
        **dict.fromkeys(movements.TASKS, (movements.evaluate, report_movements.print_report)),
        EMBEDDING: (retrieval.evaluate, report_retrieval.print_report),
        faces.TASK: (faces.evaluate, report_faces.print_report),
    }
    archive = read_archive(Path(name)) if name.endswith(".mar") else find_archives(model_store, [name])[0]
    task = str(archive.handler.get("task", "nothing that marserve knows"))
    if task not in runs:
        raise MarserveError(f"{archive.path} is for {task}; what can be evaluated is {', '.join(runs)}")
    run, print_report = runs[task]
    evaluation, problems = run(archive, data_dir)
    report.print_problems(problems)
    if as_json:
        print(json.dumps(asdict(evaluation)))
    else:
        print_report(evaluation)


@app.command()
def tune(
    name: Annotated[str, typer.Argument(help="The model.")],
    slo_p99: Annotated[str, typer.Option("--slo-p99", help="What 99 % of the replies must keep: 50ms, 0.05s.")],
    samples: Annotated[
        Path | None, typer.Option(help="Folder of requests to send in turns.  [default: the archive's example]")
    ] = None,
    model_store: Annotated[Path, typer.Option(help="Folder with .mar archives.")] = Path("model_store"),
    config: Annotated[Path, typer.Option(help="TorchServe's server-wide settings.")] = Path("config.properties"),
    budget: Annotated[str, typer.Option(help="About how long to search: 90s, 5m.")] = "5m",
    write: Annotated[bool, typer.Option("--write", help="Leave the winner where `marserve serve` finds it.")] = False,
    output: Annotated[
        Path | None, typer.Option(help="Folder for NAME.overrides.yaml.  [default: the model store]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object with every measurement.")] = False,
) -> None:
    """Find a model's fastest settings on this machine under load; exit code 1 if none keeps the limit."""
    from marserve import tuning_run as module

    options = module.Options(name, slo_p99, samples, model_store, config, budget, write, output, as_json)
    raise typer.Exit(module.run(options))


@pool_app.command("build")
def pool_build(
    folder: Annotated[Path, typer.Argument(help="<group>/<class>/*.jpg|png, as for training.")],
    output: Annotated[Path, typer.Option(help="The pool's folder; must not exist yet.")] = Path("pool"),
    archive: Annotated[Path, typer.Option(help="The image model that judges.")] = Path("model_store/captcha_image.mar"),
    min_confidence: Annotated[float, typer.Option(min=0, max=1, help="Below it an image is doubtful.")] = 0.9,
    attribution: Annotated[str, typer.Option(help="Whom to thank, and the licence.")] = "Not stated.",
) -> None:
    """Make a pool of those images that decode, are no duplicates and that the model sees as their folder says."""
    from marserve.pool import build_pool

    build_pool(folder, output, archive, min_confidence, attribution)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MarserveError(f"cannot read {path}: {error.strerror}") from None


def _not_written(path: Path, content: bytes) -> str:
    """Why it could not be; what is there already stays."""
    try:
        with path.open("xb") as file:
            file.write(content)
    except FileExistsError:
        return f"{path} exists already: move it, or choose another folder with --output"
    except OSError as error:
        return f"cannot write {path}: {error.strerror}"
    return ""


def main() -> None:
    """The entry point: a MarserveError becomes one line and its exit code."""
    try:
        app()
    except MarserveError as error:
        print(f"error: {plain(error)}", file=sys.stderr)
        sys.exit(error.exit_code)

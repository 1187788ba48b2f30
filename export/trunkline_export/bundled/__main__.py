"""`python -m trunkline_export.bundled views|train|probe|publish`: the recipe of the bundled model, step by step."""

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def _views(arguments: argparse.Namespace) -> None:
    from trunkline_export.bundled.augment import AugmentConfig
    from trunkline_export.bundled.teacher import load_teacher
    from trunkline_export.bundled.views import ViewsConfig, generate

    config = ViewsConfig(
        folders=tuple(arguments.images),
        output=arguments.output,
        count=arguments.count,
        seed=arguments.seed,
        batch=arguments.batch,
        bf16=arguments.bf16,
        augment=AugmentConfig(min_area=arguments.min_area, mix_share=arguments.mix_share),
    )
    views = generate(config, load_teacher(arguments.teacher))
    print(f"{len(views)} views in {config.output}")


def _train(arguments: argparse.Namespace) -> None:
    from trunkline_export.bundled.distil import DistilConfig, Trainer
    from trunkline_export.bundled.losses import DistilLoss, LossWeights
    from trunkline_export.bundled.teacher import classifier, load_teacher
    from trunkline_export.bundled.views import open_views

    config = DistilConfig(
        output=arguments.output,
        epochs=arguments.epochs,
        batch=arguments.batch,
        rate=arguments.rate,
        bf16=arguments.bf16,
        seed=arguments.seed,
        initial=arguments.initial,
        loss=LossWeights(grid=arguments.grid_weight, classes=arguments.classes_weight),
    )
    views = open_views(arguments.views)
    loss = DistilLoss(views, classifier(load_teacher(arguments.teacher)), config.loss)
    print(f"weights in {Trainer(views, loss, config).run()}")


def _probe(arguments: argparse.Namespace) -> None:
    from trunkline_export.bundled import probe

    subjects = {"student": probe.student_embed(arguments.student)}
    if arguments.teacher is not None:
        subjects["teacher"] = probe.teacher_embed(arguments.teacher)
    if arguments.pixels:
        subjects["16 x 16 pixels"] = probe.pixel_embed()
    figures = probe.measure(subjects, tuple(arguments.pooled), tuple(arguments.split))
    print(probe.markdown(figures))
    if arguments.json is not None:
        probe.write_json(arguments.json, figures)


def _publish(arguments: argparse.Namespace) -> None:
    from trunkline_export.bundled.publish import publish

    folder = publish(arguments.student, arguments.models)
    print(f"published {folder.card.reference} in {arguments.models}")


def _add_views(commands: "Commands") -> None:
    parser = commands.add_parser("views", help="render augmented views and store the teacher's answers")
    parser.add_argument(
        "--images",
        type=Path,
        nargs="+",
        required=True,
        help="folders of photographs; name one twice to draw from it twice as often",
    )
    parser.add_argument("--teacher", type=Path, required=True, help="DeiT-Tiny weights, safetensors")
    parser.add_argument("--output", type=Path, required=True, help="folder for views; continued if begun")
    parser.add_argument("--count", type=int, default=112_000, help="views in total (56 kB each)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=64, help="views per pass of the teacher")
    parser.add_argument("--min-area", type=float, default=0.2, help="smallest crop, as a share of the source")
    parser.add_argument("--mix-share", type=float, default=0.4, help="share of views that mix two sources")
    _add_bf16(parser)
    parser.set_defaults(run=_views)


def _add_train(commands: "Commands") -> None:
    parser = commands.add_parser("train", help="fit the student to stored views")
    parser.add_argument("--views", type=Path, required=True, help="the folder that `views` filled")
    parser.add_argument("--teacher", type=Path, required=True, help="DeiT-Tiny weights, safetensors")
    parser.add_argument("--output", type=Path, required=True, help="folder for weights; continued if begun")
    parser.add_argument("--epochs", type=int, default=9, help="passes over the views")
    parser.add_argument("--batch", type=int, default=128, help="views per step")
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--initial", type=Path, help="weights to start from, as written by an earlier run")
    parser.add_argument("--grid-weight", type=float, default=0.5, help="share of the dense term in the loss")
    parser.add_argument("--classes-weight", type=float, default=0.2, help="share of the class term")
    _add_bf16(parser)
    parser.set_defaults(run=_train)


def _add_probe(commands: "Commands") -> None:
    parser = commands.add_parser("probe", help="measure the embedding on labelled photographs")
    parser.add_argument("--student", type=Path, required=True, help="weights that `train` wrote")
    parser.add_argument("--teacher", type=Path, help="DeiT-Tiny weights, to measure the teacher too")
    parser.add_argument("--pixels", action="store_true", help="measure raw 16 x 16 pixels too")
    parser.add_argument("--pooled", type=Path, nargs="*", default=[], help="folders of LABEL/photo: 5 folds")
    parser.add_argument("--split", type=Path, nargs="*", default=[], help="folders of train|val/LABEL/photo")
    parser.add_argument("--json", type=Path, help="file to write the figures to as well")
    parser.set_defaults(run=_probe)


def _add_publish(commands: "Commands") -> None:
    parser = commands.add_parser("publish", help="export the student, through the parity gate")
    parser.add_argument("--student", type=Path, required=True, help="weights that `train` wrote")
    parser.add_argument("--models", type=Path, required=True, help="model repository to publish into")
    parser.set_defaults(run=_publish)


def _add_bf16(parser: argparse.ArgumentParser) -> None:
    text = "compute in bfloat16; pays on CPUs with AVX512-BF16 or AMX"
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True, help=text)


def main() -> None:
    """Parse the command line and run one step."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(prog="python -m trunkline_export.bundled", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="STEP")
    _add_views(commands)
    _add_train(commands)
    _add_probe(commands)
    _add_publish(commands)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()

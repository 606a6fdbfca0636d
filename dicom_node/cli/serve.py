"""``dicom-node serve``: run the node."""

import typer

from dicom_node import log
from dicom_node.cli.options import DEFAULT_CONFIG, ConfigFile, load
from dicom_node.node.serve import serve as run_node

app = typer.Typer(add_completion=False)


@app.command()
def serve(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Run the node until SIGTERM or Ctrl-C.

    Example: dicom-node serve --config /etc/dicom-node/node.yaml
    """
    log.configure()
    run_node(load(config))

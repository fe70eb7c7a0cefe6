"""Data of a simulation: phantoms are made where the configuration asks for them and they are not there yet."""

from __future__ import annotations

from server.federation.participants import Progress
from shared.config.run_config import RunConfig
from shared.errors import SiteError
from shared.runtime.project import project_root


def ensure_data(config: RunConfig, on_progress: Progress) -> None:
    """Make the phantom where it is asked for and not there yet; a `SiteError` if there are no data to be read."""
    root = project_root() / config.data.root
    if config.data.phantom is None:
        if not root.is_dir():
            raise SiteError(
                f"data.root '{config.data.root}' does not exist below {project_root()}: put one folder a site there, "
                "or add [data.phantom] to have phantoms made",
            )
        return
    from shared.phantom.generate import PhantomSettings, generate_federation

    settings = PhantomSettings(**config.data.phantom.model_dump())
    generate_federation(root, settings, on_progress=lambda done, total: on_progress("phantom", done, total, "patients"))

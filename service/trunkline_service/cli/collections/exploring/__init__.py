"""trunkline collections duplicates, outliers, clusters, map."""

from trunkline_service.cli.collections.exploring.clusters import clusters
from trunkline_service.cli.collections.exploring.duplicates import duplicates
from trunkline_service.cli.collections.exploring.map import map_
from trunkline_service.cli.collections.exploring.outliers import outliers

__all__ = ["clusters", "duplicates", "map_", "outliers"]

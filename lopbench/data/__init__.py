"""Image data sets: found or downloaded, decoded once, memory-mapped. Imports no torch."""

from lopbench.data.cache import cache_directory
from lopbench.data.catalog import Report, catalog, download, get, verify
from lopbench.data.data_set import DataSet, RemoteFile
from lopbench.data.images import ImageSet, Progress
from lopbench.data.load import load_images, locate
from lopbench.data.procedural import procedural_images

__all__ = [
    "DataSet",
    "ImageSet",
    "Progress",
    "RemoteFile",
    "Report",
    "cache_directory",
    "catalog",
    "download",
    "get",
    "load_images",
    "locate",
    "procedural_images",
    "verify",
]

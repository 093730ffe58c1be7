"""Data sets, whichever plugins bring: found or downloaded, decoded once, memory-mapped. Imports no torch."""

from lopbench.core.places import cache_directory
from lopbench.data.arrays import ArraySet
from lopbench.data.catalog import data_set, locate
from lopbench.data.contents import Progress
from lopbench.data.fetch import download, get
from lopbench.data.images import ImagePlan, ImageSet
from lopbench.data.load import example, load_data
from lopbench.data.report import Report, verify

__all__ = [
    "ArraySet",
    "ImagePlan",
    "ImageSet",
    "Progress",
    "Report",
    "cache_directory",
    "data_set",
    "download",
    "example",
    "get",
    "load_data",
    "locate",
    "verify",
]

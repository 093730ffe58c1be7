"""The theory of Joudaki et al. 2025, arXiv:2510.00304v2, as functions: correlation kernels, rank gain, frozen share."""

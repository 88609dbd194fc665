"""A drill on a running installation: kills its processes under load, and proves that nothing was lost or doubled."""

"""Progress, processes, devices, files, versions, the registry of open folders."""

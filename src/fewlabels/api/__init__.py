"""fewlabels from a program or a notebook. The names that are meant for it are those of :mod:`fewlabels` itself."""

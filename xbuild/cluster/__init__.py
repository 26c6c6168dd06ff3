"""Many machines: one scheduler of Dask, workers that build what is sent to them, and clients whose builds they are."""

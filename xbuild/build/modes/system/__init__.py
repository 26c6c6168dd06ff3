"""Mode system: a whole emulated machine, with the distribution's kernel, in the place of a sandbox."""

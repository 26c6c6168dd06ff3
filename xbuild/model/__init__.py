"""What recipes, presets and toolchains say: frozen models, and how they are loaded."""

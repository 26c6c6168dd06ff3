"""Projects without a recipe: what their build system is, and the recipe that they come to."""

from xbuild.projects.recipe import add_packages, is_own, recipe_of, recipe_word, write_recipe
from xbuild.projects.recognise import Recognised, recognise

__all__ = ["Recognised", "add_packages", "is_own", "recipe_of", "recipe_word", "recognise", "write_recipe"]

"""A build that travels: a request with all that it needs of the sender's files, as few words and blobs by sha256."""

from xbuild.build.parcel.packing import pack
from xbuild.build.parcel.unpacking import require_same, unpacked
from xbuild.build.parcel.words import Blobs, Item, Parcel, received, sent

__all__ = ["Blobs", "Item", "Parcel", "pack", "received", "require_same", "sent", "unpacked"]

"""Verify, decrypt and run edgepack bundles on the device.

::

    from edgepack_runtime import Device, open_bundle

    with open_bundle("digits-1.0-raspberry-pi-4.edgepack", device=Device.from_file("device.json")) as session:
        outputs = session.run({"image": image})
"""

__version__ = "0.1.0"

"""Its folder is on the import path of every test because it is here: that is how tests find `bundlekit`."""

"""Pure: values in, values out; the standard library only. See README.md in this folder."""

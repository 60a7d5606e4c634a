"""The benchmark: what the machine can do, what every path takes beside the plain way, and its floor.

`ceilings` measures the machine, `floors` counts operations and bytes, `inputs` makes what is asked,
`paths` holds both ways of every path, `measure` times them in turn, `run` puts rows together, `start`
times the app, `growth` fits how cost grows, `shape_pass` runs a large shape once.
"""

"""The tabs: widgets and wiring, one file each. Each has a `build` that is called inside its gr.Tab."""

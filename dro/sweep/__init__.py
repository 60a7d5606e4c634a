"""Sweeps: the same training with every width m, weight β and seed, and the best of them by validation.

grid    what is tried, and the settings that all trials share
trial   a piece of a trial's training, on whatever worker is free
halving which settings are hopeless
run     trials on disk, piece by piece; the best one, examined
page    the table of all trials

On plain Ray calls, not on Ray Tune. Tune stops trials by the order in which their reports arrive (ASHA), so
the same sweep ends differently on other workers; here a rung waits for all of its trials, and a sweep that
was killed, or that runs without Ray, stops the same ones and ends in the same bytes. A trial's folder already
goes on to the bit after a kill: Tune's checkpoints would be a second account of it. And Tune begins a process
for each trial, which loads the model again, where a worker here keeps it.
"""

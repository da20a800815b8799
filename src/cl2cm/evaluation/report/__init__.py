"""Report of runs and benchmarks as one HTML page, with its figures and tables as files.

In the order in which data flow:

subjects      what the arguments of the command name: runs, folders and results of a benchmark
results       results of a benchmark that may come from anyone, checked
gather        everything that is shown, measured run by run
measurements  what needs a model: worst queries, similarities, map, alignments
tsne          the map of vectors in two dimensions
recall        recall with intervals, and consistency of ranks across languages
curves        losses and validation results from the log of a run
quality       quality of the translations
thumbnails    small copies of images, made by the decoder processes
svg           pieces of figures; charts, matrices: the kinds of figures
tables        tables in HTML, CSV and LaTeX
blocks        what parts of the page consist of
looks         the parts that look into a model
sections      the other parts, and all in their order
page          the page
write         all of it: read, measure, write
"""

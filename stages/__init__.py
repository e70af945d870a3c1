"""What is run: commands, stages, executors, the report.

From the bottom up; each room imports only from those above it in this list.

run          what a stage is, where a run keeps things, and running tasks in this process
executors    the same tasks as array jobs, on torchrun's ranks, on Dask
ingest       images into data shards
teacher      seeds, and the teacher's pass over every view
student      students, alone or several from one pass
verify       is what is on disk what was written, and is it right
estimate     what a teacher's run would take
report       one HTML page about a run
study        designs, views, temperatures and codecs compared on your own images
maintenance  status, garbage, sealing
submit       batch scripts for Slurm and Kubernetes
cli          the command line
"""

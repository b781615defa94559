"""What a data folder holds, lacks, and has wrong."""

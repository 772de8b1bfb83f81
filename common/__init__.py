"""What any program needs: errors, the command line, progress, storage, files, the page of a report."""

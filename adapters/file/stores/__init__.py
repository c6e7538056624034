"""Where files lie besides the machine's own paths: S3, SFTP; one system a file."""

"""What all databases share: relations, reading by cursor, spooling, delivering in one transaction."""

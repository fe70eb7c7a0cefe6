"""What `fedbreast check` tells a data manager: cases read one by one and remembered, the table, what to mend."""

"""The correlate service: finds what is unusual and puts it together."""

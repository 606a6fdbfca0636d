"""Evidence on real images: public sets through a running node, then ``train reproduce``."""

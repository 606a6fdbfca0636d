"""``python -m dicom_node`` is ``dicom-node``."""

if __name__ == "__main__":
    # every child imports this module again under another name and needs no command line
    from dicom_node.cli import main

    main()

import com.pixelmed.validate.DicomSRValidator;

/** PixelMed's own command takes one file a call and compiles its rules for 3 s each time. */
public class ValidateReports {
    public static void main(String[] files) throws Exception {
        DicomSRValidator validator = new DicomSRValidator();
        for (String file : files) {
            System.out.println("file: " + file);
            System.out.println(validator.validate(file));
        }
    }
}

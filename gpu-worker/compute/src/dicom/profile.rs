//! What the Basic Application Level Confidentiality Profile does with each attribute
//! (PS3.15 annex E, table E.1-1), by keyword.

use std::collections::HashMap;
use std::sync::LazyLock;

use dicom_core::dictionary::{DataDictionary as _, DataDictionaryEntry as _};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags};

/// What happens to one attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Keep,
    /// Kept without a value: attributes that most objects must have.
    Empty,
    Remove,
    /// Each UID that is not the standard's own is replaced.
    Uid,
}

/// Attributes that must be present in common objects, and so stay without a value.
const EMPTIED: &str = "
    AccessionNumber ContentDate ContentTime PatientBirthDate PatientID PatientName PatientSex
    ReferringPhysicianName StudyDate StudyID StudyTime ConsultingPhysicianName
    FillerOrderNumberImagingServiceRequest PlacerOrderNumberImagingServiceRequest
    VerifyingObserverName PersonName ContentCreatorName GraphicAnnotationSequence
    VerifyingObserverIdentificationCodeSequence PersonIdentificationCodeSequence
    InstitutionCodeSequence
";

/// Attributes that identify a patient, a carer, a place or a device, or that hold free text.
const REMOVED: &str = "
    AcquisitionComments AcquisitionContextSequence AcquisitionDate AcquisitionDateTime
    AcquisitionDeviceProcessingDescription AcquisitionProtocolDescription AcquisitionTime
    ActualHumanPerformersSequence AdditionalPatientHistory AddressTrial AdmissionID AdmittingDate
    AdmittingDiagnosesCodeSequence AdmittingDiagnosesDescription AdmittingTime AffectedSOPInstanceUID
    Allergies Arbitrary AuthorObserverSequence BranchOfService CassetteID CommentsOnThePerformedProcedureStep
    ConfidentialityConstraintOnPatientDataDescription ConsultingPhysicianIdentificationSequence
    ContentCreatorIdentificationCodeSequence ContributingEquipmentSequence ContributionDescription
    CountryOfResidence CurrentPatientLocation CurveDate CurveTime CustodialOrganizationSequence
    DataSetTrailingPadding DerivationDescription DetectorID DeviceSerialNumber DeviceUID
    DigitalSignatureUID DigitalSignaturesSequence DischargeDiagnosisDescription DistributionAddress
    DistributionName EthnicGroup EthnicGroups FrameComments GantryID GeneratorID
    HumanPerformerName HumanPerformerOrganization IconImageSequence IdentifyingComments ImageComments
    ImagePresentationComments ImagingServiceRequestComments Impressions InstitutionAddress
    InstitutionalDepartmentName InstitutionalDepartmentTypeCodeSequence InstitutionName
    InsurancePlanIdentification IntendedRecipientsOfResultsIdentificationSequence
    InterpretationApproverSequence InterpretationAuthor InterpretationDiagnosisDescription
    InterpretationIDIssuer InterpretationRecorder InterpretationText InterpretationTranscriber
    IssueDateOfImagingServiceRequest IssuerOfAdmissionID IssuerOfAdmissionIDSequence
    IssuerOfPatientID IssuerOfPatientIDQualifiersSequence IssuerOfServiceEpisodeID
    IssuerOfAccessionNumberSequence LabelText LastMenstrualDate MAC MedicalAlerts MedicalRecordLocator
    MilitaryRank ModifiedAttributesSequence ModifiedImageDescription ModifyingDeviceID
    ModifyingDeviceManufacturer NameOfPhysiciansReadingStudy NamesOfIntendedRecipientsOfResults
    Occupation OperatorIdentificationSequence OperatorsName OrderCallbackPhoneNumber
    OrderCallbackTelecomInformation OrderEnteredBy OrderEntererLocation OriginalAttributesSequence
    OtherPatientIDs OtherPatientIDsSequence OtherPatientNames OverlayDate OverlayTime
    ParticipantSequence PatientAddress PatientAge PatientBirthName PatientBirthTime PatientComments
    PatientInstitutionResidence PatientInsurancePlanCodeSequence PatientMotherBirthName
    PatientPrimaryLanguageCodeSequence PatientPrimaryLanguageModifierCodeSequence
    PatientReligiousPreference PatientSexNeutered PatientSize PatientState PatientTelecomInformation
    PatientTelephoneNumbers PatientTransportArrangements PatientWeight PerformedLocation
    PerformedProcedureStepDescription PerformedProcedureStepEndDate PerformedProcedureStepEndTime
    PerformedProcedureStepID PerformedProcedureStepStartDate PerformedProcedureStepStartTime
    PerformedStationAETitle PerformedStationGeographicLocationCodeSequence PerformedStationName
    PerformedStationNameCodeSequence PerformingPhysicianIdentificationSequence
    PerformingPhysicianName PersonAddress PersonTelephoneNumbers PersonTelecomInformation
    PhysicianApprovingInterpretation PhysiciansOfRecord PhysiciansOfRecordIdentificationSequence
    PhysiciansReadingStudyIdentificationSequence PlateID PreMedication PregnancyStatus ProtocolName
    PatientSpeciesDescription PatientBreedDescription ResponsiblePerson ResponsibleOrganization
    ReasonForTheImagingServiceRequest ReasonForStudy ReferencedDigitalSignatureSequence
    ReferencedPatientAliasSequence ReferencedPatientPhotoSequence ReferencedPatientSequence
    ReferencedSOPInstanceMACSequence ReferringPhysicianAddress
    ReferringPhysicianIdentificationSequence ReferringPhysicianTelephoneNumbers RegionOfResidence
    RequestAttributesSequence RequestedContrastAgent RequestedProcedureComments
    RequestedProcedureDescription RequestedProcedureID RequestedProcedureLocation
    RequestingPhysician RequestingService ResultsComments ResultsDistributionListSequence
    ResultsIDIssuer ReviewerName ScheduledHumanPerformersSequence
    ScheduledPatientInstitutionResidence ScheduledPerformingPhysicianIdentificationSequence
    ScheduledPerformingPhysicianName ScheduledProcedureStepDescription
    ScheduledProcedureStepEndDate ScheduledProcedureStepEndTime ScheduledProcedureStepLocation
    ScheduledProcedureStepStartDate ScheduledProcedureStepStartTime ScheduledStationAETitle
    ScheduledStationGeographicLocationCodeSequence ScheduledStationName
    ScheduledStationNameCodeSequence ScheduledStudyLocation ScheduledStudyLocationAETitle
    SeriesDate SeriesDescription SeriesTime ServiceEpisodeDescription ServiceEpisodeID SmokingStatus
    SourceImageSequence SpecialNeeds StationName StudyComments StudyDescription StudyIDIssuer
    TelephoneNumberTrial TextComments TextString TextValue TimezoneOffsetFromUTC
    TopicAuthor TopicKeywords TopicSubject TopicTitle VerifyingOrganization VisitComments
    DeviceDescription LensMake LensModel LensSerialNumber LensSpecification CameraOwnerName
    MakerNote GPSLatitude GPSLongitude GPSAltitude GPSVersionID GPSDateStamp GPSTimeStamp
    InstitutionalDepartmentName PatientAlternativeCalendar PatientBirthDateInAlternativeCalendar
    PatientDeathDateInAlternativeCalendar UniqueDeviceIdentifier UDISequence DeviceLabel
    ManufacturerDeviceIdentifier SoftwareVersions EncapsulatedDocument 
    DocumentTitle  ContentDescription ContentLabel 
    ImplantName ClinicalTrialSiteName ClinicalTrialSiteID ClinicalTrialSubjectID
    ClinicalTrialSubjectReadingID ClinicalTrialProtocolName ClinicalTrialProtocolID
    ClinicalTrialSponsorName ClinicalTrialCoordinatingCenterName ClinicalTrialTimePointDescription
    ClinicalTrialProtocolEthicsCommitteeName ClinicalTrialProtocolEthicsCommitteeApprovalNumber
    StorageMediaFileSetID RetrieveAETitle StationAETitle SourceIdentifier SpecimenAccessionNumber
    SpecimenIdentifier ContainerIdentifier SpecimenDescriptionSequence SlideIdentifier
    FiducialUID FillerOrderNumberImagingServiceRequestRetired
    PlacerOrderNumberImagingServiceRequestRetired FillerOrderNumberProcedure PlacerOrderNumberProcedure
    ReasonForVisit ReasonForSuperseding ReferencedFileID RouteOfAdmissions 
";

static LISTED: LazyLock<HashMap<Tag, Action>> = LazyLock::new(|| {
    let by_name = |words: &'static str, action| {
        words
            .split_whitespace()
            .filter_map(|name| StandardDataDictionary.by_name(name))
            .map(move |entry| (entry.tag(), action))
    };
    by_name(REMOVED, Action::Remove)
        .chain(by_name(EMPTIED, Action::Empty))
        .collect()
});

/// The action for an attribute. What the list does not name is judged by its VR: names,
/// dates, times, ages, application titles and free text go, and so does what no edition of
/// the standard describes.
pub(crate) fn action(tag: Tag, vr: VR) -> Action {
    if tag.group() % 2 == 1 || matches!(tag.group(), 0x0000..=0x0004 | 0xFFFA | 0xFFFC) {
        return Action::Remove;
    }
    // Curves and overlays draw over the pixels, often with the patient's name.
    let repeating = tag.group() & 0xFF00;
    if repeating == 0x5000 || repeating == 0x6000 {
        return Action::Remove;
    }
    if let Some(action) = LISTED.get(&tag) {
        return *action;
    }
    if tag.element() == 0 || StandardDataDictionary.by_tag(tag).is_none() {
        return Action::Remove;
    }
    match vr {
        VR::UI => Action::Uid,
        VR::PN | VR::DA | VR::DT | VR::TM | VR::AS | VR::AE | VR::LT | VR::ST | VR::UT | VR::UR => {
            Action::Remove
        }
        VR::UN => Action::Remove,
        _ => Action::Keep,
    }
}

/// True for attributes that describe the pixels and must survive for them to be decoded.
pub(crate) fn is_pixels(tag: Tag) -> bool {
    matches!(
        tag,
        tags::PIXEL_DATA | tags::FLOAT_PIXEL_DATA | tags::DOUBLE_FLOAT_PIXEL_DATA
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_keyword_is_in_the_dictionary() {
        let unknown: Vec<&str> = REMOVED
            .split_whitespace()
            .chain(EMPTIED.split_whitespace())
            .filter(|name| StandardDataDictionary.by_name(name).is_none())
            .collect();
        assert_eq!(unknown, Vec::<&str>::new());
    }
}

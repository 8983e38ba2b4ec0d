//! What reports say of each reason for a stay: how it began, what was found, what was done.

/// Sentences for one principal diagnosis.
pub struct Story {
    pub code: &'static str,
    pub reason: &'static str,
    pub onset: &'static [&'static str],
    pub findings: &'static [&'static str],
    pub course: &'static [&'static str],
}

macro_rules! stories {
    ($($code:literal $reason:literal [$($onset:literal),*] [$($finding:literal),*] [$($course:literal),*])*) => {
        pub static STORIES: &[Story] = &[$(Story {
            code: $code, reason: $reason, onset: &[$($onset),*], findings: &[$($finding),*], course: &[$($course),*],
        }),*];
    };
}

stories! {
    "J189" "pneumopathie aiguë communautaire"
        ["Toux grasse et fièvre à {temp} °C depuis trois jours, sans amélioration sous amoxicilline.", "Dyspnée d'apparition progressive avec expectorations purulentes, sans douleur thoracique."]
        ["Foyer de condensation de la base droite à la radiographie, sans épanchement pleural.", "Crépitants de la base gauche. CRP à {crp} mg/L, saturation à {spo2} % en air ambiant."]
        ["Antibiothérapie par amoxicilline et acide clavulanique pendant {jours} jours, apyrexie à 48 heures.", "Oxygénothérapie {litres} L/min puis sevrage, bonne évolution clinique."]
    "J219" "bronchiolite aiguë du nourrisson"
        ["Rhinite depuis deux jours puis gêne respiratoire et baisse de la prise des biberons.", "Toux et sifflements, sans fièvre, contage familial."]
        ["Polypnée, tirage intercostal modéré, sibilants diffus, saturation à {spo2} %.", "Pas de signe d'épuisement, hydratation correcte."]
        ["Désobstruction rhinopharyngée et fractionnement des repas, sans recours à la ventilation.", "Oxygène aux lunettes pendant 48 heures puis surveillance simple."]
    "U0710" "infection respiratoire à SARS-CoV-2"
        ["Fièvre, toux sèche et anosmie depuis une semaine, aggravation de la dyspnée.", "PCR positive en ville, désaturation à {spo2} % à domicile."]
        ["Scanner thoracique : verre dépoli bilatéral étendu, pas d'embolie pulmonaire.", "Lymphopénie, CRP à {crp} mg/L."]
        ["Dexaméthasone et anticoagulation préventive, oxygène jusqu'à {litres} L/min.", "Sevrage progressif de l'oxygène, sans passage en réanimation."]
    "I500" "décompensation cardiaque"
        ["Dyspnée d'effort croissante, orthopnée et prise de {litres} kg en une semaine.", "Œdèmes des membres inférieurs et dyspnée nocturne, écart de régime sans sel reconnu."]
        ["Crépitants des deux bases, turgescence jugulaire, BNP à {bnp} ng/L.", "Échographie cardiaque : fraction d'éjection à {fevg} %, pas de valvulopathie significative."]
        ["Diurétique de l'anse par voie intraveineuse avec bonne réponse, poids de sortie {poids} kg.", "Adaptation du traitement de fond, relais par furosémide oral."]
    "J441" "exacerbation de bronchopneumopathie chronique obstructive"
        ["Majoration de la toux et des expectorations devenues purulentes depuis quatre jours.", "Dyspnée au moindre effort, tabagisme poursuivi."]
        ["Sibilants diffus, saturation à {spo2} %, pas d'acidose aux gaz du sang.", "Radiographie sans foyer ni pneumothorax, CRP à {crp} mg/L."]
        ["Aérosols bronchodilatateurs, corticothérapie courte et antibiotique, amélioration en {jours} jours.", "Kinésithérapie respiratoire, sevrage tabagique proposé."]
    "I489" "fibrillation auriculaire rapide"
        ["Palpitations depuis 48 heures, sans syncope ni douleur thoracique.", "Découverte d'un pouls irrégulier à {fc}/min par le médecin traitant."]
        ["Électrocardiogramme : fibrillation auriculaire à {fc}/min, pas de trouble de la repolarisation.", "Thyréostimuline normale, kaliémie à {k} mmol/L."]
        ["Contrôle de la fréquence par bisoprolol et anticoagulation par apixaban.", "Retour en rythme sinusal après amiodarone, cardioversion électrique non nécessaire."]
    "I219" "infarctus du myocarde"
        ["Douleur thoracique constrictive prolongée, irradiant au bras gauche, à 6 heures du matin.", "Douleur rétrosternale d'effort puis de repos, sueurs."]
        ["Sus-décalage inférieur à l'électrocardiogramme, troponine élevée.", "Coronarographie : occlusion de la coronaire droite traitée par un stent actif."]
        ["Suites simples, fraction d'éjection à {fevg} %, pas de récidive douloureuse.", "Double antiagrégation pour douze mois, statine et réadaptation prescrites."]
    "I639" "accident vasculaire cérébral ischémique"
        ["Déficit brutal du membre supérieur droit avec trouble de la parole, constaté par {proche}.", "Hémiparésie gauche au réveil, score de Glasgow à {glasgow}."]
        ["IRM cérébrale : infarctus récent du territoire sylvien, sans transformation hémorragique.", "Écho-doppler des troncs supra-aortiques sans sténose serrée."]
        ["Récupération motrice partielle, pas de trouble de la déglutition, rééducation engagée.", "Antiagrégant plaquettaire et statine, transfert en soins de suite demandé."]
    "S7200" "fracture du col du fémur"
        ["Chute mécanique de sa hauteur à domicile, sans perte de connaissance.", "Chute dans l'escalier, impotence fonctionnelle immédiate."]
        ["Radiographie du bassin : fracture cervicale vraie déplacée.", "Pas de traumatisme crânien, hémoglobine à {hb} g/dL."]
        ["Prothèse intermédiaire, lever au deuxième jour, pas de complication.", "Transfusion de deux culots, verticalisation avec le kinésithérapeute."]
    "M161" "prothèse totale de hanche programmée"
        ["Coxarthrose invalidante, périmètre de marche réduit, échec du traitement médical.", "Douleurs mécaniques de l'aine droite depuis deux ans."]
        ["Radiographies : pincement articulaire complet, pas d'ostéonécrose.", "Bilan préopératoire sans particularité, hémoglobine à {hb} g/dL."]
        ["Intervention sans incident, appui complet autorisé, cicatrice propre.", "Retour à domicile avec kinésithérapie et anticoagulant préventif {semaines} semaines."]
    "M171" "prothèse totale de genou programmée"
        ["Gonarthrose évoluée, douleurs nocturnes, infiltrations sans effet durable.", "Gêne à la marche croissante, genu varum."]
        ["Radiographies : pincement fémoro-tibial interne, ostéophytes.", "Pas de signe d'infection, CRP à {crp} mg/L."]
        ["Suites simples, flexion à 90 degrés à la sortie.", "Pas de phlébite clinique, rééducation prescrite."]
    "H259" "chirurgie de la cataracte"
        ["Baisse d'acuité visuelle progressive de l'œil droit.", "Éblouissements nocturnes gênant la conduite."]
        ["Opacité cristallinienne dense, fond d'œil normal, pas de glaucome.", "Tonus oculaire normal."]
        ["Phakoémulsification avec implant sous anesthésie topique, sans complication.", "Collyres antibiotique et anti-inflammatoire, contrôle le lendemain."]
    "K635" "coloscopie de dépistage"
        ["Test immunologique fécal positif, sans symptôme digestif.", "Antécédent familial de cancer colorectal au premier degré."]
        ["Deux polypes du côlon réséqués, de {mm} mm pour le plus grand, pas de lésion suspecte.", "Préparation colique de bonne qualité, iléon normal."]
        ["Pas de saignement, sortie le jour même, résultats d'anatomopathologie à suivre.", "Prochaine coloscopie à prévoir selon l'histologie."]
    "K802" "cholécystectomie"
        ["Coliques hépatiques répétées, sans fièvre ni ictère.", "Douleurs de l'hypocondre droit après les repas."]
        ["Échographie : vésicule lithiasique à paroi fine, voie biliaire principale non dilatée.", "Bilan hépatique normal, lipase normale."]
        ["Cœlioscopie sans conversion, reprise de l'alimentation le soir même.", "Suites simples, antalgiques simples."]
    "K358" "appendicite aiguë"
        ["Douleur de la fosse iliaque droite avec fièvre à {temp} °C depuis la veille.", "Douleurs péri-ombilicales puis de la fosse iliaque droite, vomissements."]
        ["Défense localisée, CRP à {crp} mg/L, scanner : appendice de {mm} mm, pas d'abcès.", "Échographie en faveur d'une appendicite non compliquée."]
        ["Appendicectomie par cœlioscopie, liquide propre, suites simples.", "Pas d'antibiotique au-delà de 24 heures."]
    "O800" "accouchement par voie basse"
        ["Mise en travail spontanée à 39 semaines d'aménorrhée, grossesse sans complication.", "Rupture spontanée de la poche des eaux, contractions régulières."]
        ["Analgésie péridurale, présentation du sommet.", "Monitoring fœtal normal, liquide clair."]
        ["Naissance d'un enfant en bonne santé, périnée intact, délivrance complète.", "Suites de couches simples, allaitement maternel en place."]
    "Z380" "naissance"
        ["Naissance à 40 semaines d'aménorrhée, adaptation immédiate à la vie extra-utérine.", "Score d'Apgar à 10 à cinq minutes."]
        ["Examen clinique normal, hanches stables, pas de souffle cardiaque.", "Pas d'ictère, dépistage auditif normal."]
        ["Prise de poids satisfaisante, sortie avec la mère.", "Test de dépistage néonatal prélevé à 72 heures."]
    "E117" "déséquilibre d'un diabète de type 2"
        ["Syndrome polyuro-polydipsique, glycémies capillaires supérieures à 3 g/L.", "Hyperglycémies malgré une bonne observance, plaie du pied droit."]
        ["HbA1c à {hba1c} %, pas de cétose, créatininémie à {créat} µmol/L.", "Fond d'œil sans rétinopathie, microalbuminurie positive."]
        ["Introduction d'une insuline basale, éducation thérapeutique.", "Soins locaux, pas d'ostéite à la radiographie."]
    "N10" "pyélonéphrite aiguë"
        ["Fièvre à {temp} °C, frissons et douleur lombaire droite, brûlures mictionnelles.", "Douleur lombaire fébrile, sans vomissement."]
        ["Bandelette urinaire positive, CRP à {crp} mg/L, échographie sans dilatation des cavités.", "ECBU à Escherichia coli sensible."]
        ["Ceftriaxone puis relais oral, apyrexie au troisième jour, {jours} jours au total.", "Pas d'obstacle, pas de choc septique."]
    "K922" "hémorragie digestive"
        ["Méléna depuis deux jours, asthénie, pas d'hématémèse.", "Rectorragies sous anticoagulant, sans malaise."]
        ["Hémoglobine à {hb} g/dL, TA à {ta}, FC à {fc}/min.", "Endoscopie : ulcère sans saignement actif, pas de varice œsophagienne."]
        ["Inhibiteur de la pompe à protons, transfusion de deux culots, pas de récidive.", "Coloscopie : diverticules, arrêt spontané du saignement."]
    "F322" "épisode dépressif sévère"
        ["Tristesse, insomnie et perte d'élan vital depuis {semaines} semaines.", "Ralentissement psychomoteur, idées noires sans projet suicidaire."]
        ["Pas d'élément délirant, pas de trouble cognitif.", "Bilan biologique normal, thyréostimuline normale."]
        ["Adaptation de l'antidépresseur, amélioration du sommeil.", "Suivi psychiatrique organisé avec {proche}."]
    "K409" "cure de hernie inguinale"
        ["Tuméfaction inguinale droite réductible, gêne à l'effort.", "Hernie connue, devenue douloureuse, sans étranglement."]
        ["Hernie inguinale oblique externe, pas de hernie controlatérale.", "Bilan préopératoire normal."]
        ["Cure par prothèse en ambulatoire, suites simples.", "Antalgiques simples, arrêt de travail de {semaines} semaines."]
    "G560" "libération du canal carpien"
        ["Paresthésies nocturnes de la main droite depuis plusieurs mois.", "Perte de force du pouce, signe de Tinel positif."]
        ["Électromyogramme : atteinte du nerf médian au poignet.", "Pas d'amyotrophie thénarienne."]
        ["Neurolyse sous anesthésie locorégionale, sortie le jour même.", "Pansement sec, ablation des fils à {jours} jours."]
    "K011" "avulsion de dents de sagesse"
        ["Épisodes de péricoronarite à répétition.", "Dents incluses découvertes au panoramique dentaire."]
        ["Panoramique : quatre dents de sagesse incluses.", "Pas de trouble de l'hémostase."]
        ["Avulsions sous anesthésie générale, saignement minime.", "Bains de bouche, antalgiques, alimentation molle."]
    "A099" "gastroentérite aiguë"
        ["Diarrhée et vomissements depuis 48 heures, intolérance alimentaire.", "Diarrhée fébrile à {temp} °C, perte de poids."]
        ["Déshydratation modérée, abdomen souple, kaliémie à {k} mmol/L.", "CRP à {crp} mg/L, coproculture négative."]
        ["Réhydratation intraveineuse puis orale, reprise de l'alimentation.", "Pas d'antibiotique, évolution favorable."]
    "C509" "cancer du sein"
        ["Nodule du quadrant supéro-externe découvert à la mammographie de dépistage.", "Autopalpation d'une masse du sein gauche."]
        ["Biopsie : carcinome infiltrant, récepteurs hormonaux positifs, HER2 négatif.", "Bilan d'extension sans métastase."]
        ["Tumorectomie et ganglion sentinelle, suites simples.", "Radiothérapie puis hormonothérapie décidées en réunion pluridisciplinaire."]
    "C61" "cancer de la prostate"
        ["Élévation du PSA, sans symptôme urinaire.", "Pollakiurie nocturne, nodule au toucher rectal."]
        ["Biopsies : adénocarcinome, score de Gleason 7.", "Scintigraphie osseuse sans lésion secondaire."]
        ["Prostatectomie radicale, sonde retirée au septième jour.", "Hormonothérapie discutée, surveillance du PSA."]
    "C189" "cancer du côlon"
        ["Anémie ferriprive et altération de l'état général.", "Alternance diarrhée et constipation, amaigrissement de {litres} kg."]
        ["Coloscopie : lésion bourgeonnante du côlon, biopsiée.", "Scanner sans métastase hépatique ni pulmonaire."]
        ["Colectomie par cœlioscopie, reprise du transit au quatrième jour.", "Chimiothérapie adjuvante à discuter, pas de fistule."]
    "C349" "cancer bronchique"
        ["Hémoptysies de faible abondance et amaigrissement, tabagisme ancien.", "Dyspnée et douleur scapulaire, toux persistante."]
        ["Scanner : masse du lobe supérieur droit de {mm} mm, adénopathies médiastinales.", "Fibroscopie avec biopsies, pas d'épanchement pleural."]
        ["Antalgiques de palier 3, soins de support, chimiothérapie programmée.", "Ponction évacuatrice non nécessaire, retour à domicile avec oxygène."]
    "Z511" "chimiothérapie"
        ["Venue programmée pour une cure, bon état général.", "Cure reportée d'une semaine pour neutropénie."]
        ["Pas de fièvre, hémoglobine à {hb} g/dL, créatininémie à {créat} µmol/L.", "Chambre implantable fonctionnelle, pas de signe d'infection."]
        ["Cure réalisée sans incident, traitement antiémétique.", "Prochaine cure dans trois semaines."]
    "N185" "insuffisance rénale avancée"
        ["Dégradation de la fonction rénale, asthénie et nausées.", "Surcharge hydrosodée et hyperkaliémie découverte en ville."]
        ["Créatininémie à {créat} µmol/L, kaliémie à {k} mmol/L.", "Échographie : reins de petite taille, pas d'obstacle."]
        ["Adaptation des traitements, pas d'indication de dialyse en urgence.", "Consultation d'annonce et fistule à programmer."]
    "R296" "chutes à répétition"
        ["Trois chutes en un mois, sans perte de connaissance.", "Chute nocturne, relevée par {proche} après plusieurs heures au sol."]
        ["Pas de fracture, hypotension orthostatique à {ta_mm} mmHg.", "Scanner cérébral sans saignement, score de Glasgow à {glasgow}."]
        ["Arrêt d'un hypotenseur, kinésithérapie et aides à domicile.", "Évaluation gériatrique, pas de rhabdomyolyse."]
    "R074" "douleur thoracique"
        ["Douleur thoracique atypique de quelques minutes, au repos.", "Oppression thoracique après un effort inhabituel."]
        ["Électrocardiogramme normal, troponines négatives à deux reprises.", "Pas d'embolie pulmonaire au scanner, D-dimères normaux."]
        ["Pas de récidive, épreuve d'effort en externe.", "Douleur pariétale probable, antalgique simple."]
    "J459" "crise d'asthme"
        ["Crise d'asthme après exposition allergénique, réponse incomplète au salbutamol.", "Toux nocturne et sifflements depuis deux jours."]
        ["Sibilants bilatéraux, saturation à {spo2} %, pas de signe de gravité.", "Débit de pointe à 60 % de la théorique."]
        ["Nébulisations et corticothérapie orale courte, retour à l'état de base.", "Technique d'inhalation revue, traitement de fond réévalué."]
    "G409" "crises d'épilepsie"
        ["Deux crises généralisées à domicile, oubli du traitement.", "Crise tonicoclonique devant {proche}, confusion au décours."]
        ["Scanner cérébral sans lésion récente, score de Glasgow à {glasgow}.", "Électroencéphalogramme : anomalies temporales, pas d'état de mal."]
        ["Reprise du lévétiracétam, pas de récidive.", "Conduite automobile contre-indiquée, avis neurologique pris."]
}

/// The notice that stands in each document.
pub const NOTICE: &str = "[Document synthétique : patient, soignants et faits fictifs.]";

pub static EXAMINATIONS: &[&str] = &[
    "À l'entrée : TA {ta}, FC {fc}/min, saturation {spo2} %, température {temp} °C.",
    "Examen : poids {poids} kg, tension artérielle {ta_mm} mmHg, fréquence cardiaque {fc}/min, apyrexie.",
    "Constantes : TA {ta_mm}, FC {fc}, SpO2 {spo2} % en air ambiant. Score de Glasgow 15.",
];

pub static NEGATIVES: &[&str] = &[
    "Pas de fièvre, pas de signe méningé.",
    "Absence d'embolie pulmonaire et de phlébite.",
    "Ni allergie médicamenteuse connue, ni intoxication alcoolique.",
    "Abdomen souple, pas de défense.",
    "Aucun argument pour une maladie de Crohn ni pour une maladie de Parkinson.",
    "Examen neurologique normal, sans déficit.",
];

pub static LIVING: &[&str] = &[
    "{Il} vit {seul} à domicile, {proche} {PROCHE} passe chaque jour.",
    "{Le_patient} vit au {ADRESSE}. Personne à prévenir : {proche} {PROCHE} au {TEL}.",
    "Autonome à domicile, {retraité}, entourage présent.",
    "Aides à domicile deux fois par semaine ; contact : {TEL} ou {MAIL}.",
];

pub static CLOSINGS: &[&str] = &[
    "Rendez-vous de contrôle le {RDV} en consultation.",
    "À revoir dans {semaines} semaines avec un bilan biologique ; consultation fixée au {RDV}.",
    "Un contrôle biologique (créatininémie, kaliémie) est souhaitable dans {jours} jours.",
    "Nous restons à votre disposition au {TEL_SERVICE}.",
];

pub static SALUTATIONS: &[&str] = &[
    "Bien confraternellement,",
    "Confraternellement,",
    "Avec mes salutations confraternelles,",
    "Bien cordialement,",
];
